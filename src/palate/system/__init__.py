"""What every process needs of the system underneath: whole files, locks, progress, facts about the machine."""
