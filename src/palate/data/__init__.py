"""From event and item files to a dataset, and from its histories to windows and examples.

For outside: ``prepare.prepare``, ``dataset.Dataset``, ``dataset.load_dataset``, ``windows.draw_windows``,
``windows.make_examples``, ``history_file.read_history``, ``simulate.simulate_users``.
"""
