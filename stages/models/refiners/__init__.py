"""The refiners, which repair texture where a removal left it soft.

The module that a refiner's options name as ``loader`` defines two functions of the model's folder
(a pipeline as diffusers' ``save_pretrained`` writes it: safetensors, never from the network) and
the recipe's section [refine]:

* ``load`` returns a :class:`stages.models.refiners.base.DiffusionRefiner`, the model without its
  text encoders;
* ``load_encoder`` returns the function that encodes a text, truncated to 512 tokens (RORem: 77), as
  a :class:`stages.models.refiners.prompts.Prompt`. The text encoders are as large as the model
  itself, and run once per distinct prompt. It raises a RowError: ``model.out_of_memory``.

Both raise a WeightsError: ``weights.unusable``, ``model.unavailable`` for an option that is not
supported here, or ``model.not_installed``; or a RowError: ``model.out_of_memory``.
"""
