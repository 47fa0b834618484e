"""What every process needs of the system underneath: whole files, records, locks, progress, the machine.

Public names: ``files.fresh_folder``, ``files.write_text``, ``records.Frozen``, ``records.read_record``,
``locks.locked``, ``progress.counting_bar``, ``machine.Machine``, ``stages.Stages``.
"""
