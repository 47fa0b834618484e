"""Item texts and cached item vectors.

Public names: ``table.ItemTable``, ``table.build_item_table``, ``blocks.BlockTable``, ``encoder.ItemEncoder``,
``texts.dataset_items``.
"""
