"""Item texts, and tables of item vectors, item categories and text blocks.

Public names: ``table.ItemTable``, ``table.build_item_table``, ``blocks.BlockTable``, ``encoder.ItemEncoder``,
``texts.dataset_items``.
"""
