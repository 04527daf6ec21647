"""models.config: from the official messages to what the stand-in holds."""

from argparse import Namespace
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from services.tfserving.versions import ModelConfig, local_path


def parse_configs(config: ModelServerConfig, models_root: Path | None) -> list[ModelConfig]:
    """The models of a ModelServerConfig; a model without a policy has the one latest version."""
    models = []
    for model in config.model_config_list.config:
        policy = model.model_version_policy
        choice = policy.WhichOneof("policy_choice") or "latest"
        models.append(
            ModelConfig(
                name=model.name,
                base_path=local_path(model.base_path, models_root),
                latest=max(1, policy.latest.num_versions) if choice == "latest" else 0,
                specific=frozenset(policy.specific.versions),
                labels=dict(model.version_labels),
            )
        )
    return models


def read_configs(options: Namespace) -> list[ModelConfig]:
    """The models that the flags name.

    Raises:
        OSError: the file cannot be read.
        google.protobuf.text_format.ParseError: it is no ModelServerConfig.
    """
    config = ModelServerConfig()
    if options.model_config_file is not None:
        text_format.Parse(options.model_config_file.read_text(), config)
    else:
        config.model_config_list.config.add(name=options.model_name, base_path=options.model_base_path)
    return parse_configs(config, options.models_root)
