"""Datasets: preparation from event and item files, and windows and examples of their histories.

Public names: ``prepare.prepare``, ``dataset.Dataset``, ``dataset.load_dataset``, ``windows.draw_windows``,
``windows.make_examples``, ``history_file.read_history``, ``simulate.simulate_users``.
"""
