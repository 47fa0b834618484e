"""System services: atomic files, records, locks, process engines, progress bars, and the machine's description.

Public names: ``files.fresh_folder``, ``files.write_text``, ``records.Frozen``, ``records.read_record``,
``locks.locked``, ``progress.counting_bar``, ``machine.Machine``, ``stages.Stages``.
"""
