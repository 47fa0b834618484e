"""Datasets: preparation from event and item files, and windows and examples of their histories.

For outside: ``prepare.prepare``, ``dataset.Dataset``, ``dataset.load_dataset``, ``windows.draw_windows``,
``windows.make_examples``, ``history_file.read_history``, ``simulate.simulate_users``.
"""
