"""Items as texts and as cached vectors.

For outside: ``table.ItemTable``, ``table.build_item_table``, ``blocks.BlockTable``, ``encoder.ItemEncoder``,
``texts.dataset_items``.
"""
