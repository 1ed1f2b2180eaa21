"""The model for Hugging Face: AutoModel.from_pretrained(folder, trust_remote_code=True)."""

from transformers import PretrainedConfig, PreTrainedModel

from .model import build


class Config(PretrainedConfig):
    """The content of config.json."""

    model_type = "enas"


class Model(PreTrainedModel):
    """The module of model.py, as `model`, called as it is."""

    config_class, base_model_prefix = Config, "model"

    def __init__(self, config: Config):
        super().__init__(config)
        self.model = build(**{**config.to_dict(), "dtype": None, "folder": config.name_or_path})
        self.post_init()

    def forward(self, *inputs, **named):
        return self.model(*inputs, **named)
