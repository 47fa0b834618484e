"""Recipes: their settings, loading from YAML, and the registries of user encoders, tasks and predictors.

Public names: ``recipe.Recipe``, ``load.load_recipe``, ``load.recipe_from``, ``load.dump_recipe``,
``section.KindSettings``, ``registry.register_user_encoder``, ``registry.register_task``,
``registry.register_predictor``.
"""
