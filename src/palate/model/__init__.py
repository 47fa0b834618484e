"""The personalised model: user encoder, prompt assembly and backbone, with loading and saving.

Public names: ``model.PersonalizedModel``, ``model.load_model``, ``build.build_model``, ``build.build_table``,
``config.model_settings``, ``config.check_model``, ``generation.Round``, ``answer.answer``.
"""
