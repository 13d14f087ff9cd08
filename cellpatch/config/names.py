"""Short stable names of components: what records and identities call them, wherever their classes lie.

A class may move to another module: change its path here and in conf/, and no run's identity changes. What is not
listed is never imported, let alone built.
"""

NAMES: dict[str, dict[str, str]] = {  # path of a node in the config: import path: name
    "model.backbone": {
        "cellpatch.models.cnn.CNN": "cnn",
        "cellpatch.models.nin.NIN": "nin",
        "cellpatch.models.customvit.CustomViT": "customvit",
        "cellpatch.models.timm.TimmBackbone": "timm",
        "cellpatch.models.ctranspath.CTransPath": "ctranspath",
        "cellpatch.models.colour.ColourStatistics": "colour",
    },
    "model.weights": {"cellpatch.models.weights.Weights": "published"},
    "data": {
        "cellpatch.data.sources.folder.Folder": "folder",
        "cellpatch.data.sources.table.Table": "table",
        "cellpatch.data.sources.points.Points": "points",
        "cellpatch.data.sources.npz.Npz": "npz",
        "cellpatch.data.synthetic.source.Synthetic": "synthetic",
    },
    "data.split": {
        "cellpatch.data.splits.BySpecimen": "by_specimen",
        "cellpatch.data.splits.KFold": "kfold",
        "cellpatch.data.splits.BySite": "by_site",
        "cellpatch.data.splits.ByCell": "by_cell",
    },
    "data.loading": {"cellpatch.data.loading.Loading": "resident"},
    "data.costs": {"cellpatch.metrics.classification.Costs": "by_class"},
    "adapt": {
        "cellpatch.training.adaptation.Scratch": "scratch",
        "cellpatch.pretraining.methods.MaskedImages": "mim",
        "cellpatch.pretraining.methods.Distillation": "distil",
        "cellpatch.training.adaptation.LastLayer": "ft_last",
        "cellpatch.training.adaptation.AllLayers": "ft_all",
        "cellpatch.training.adaptation.Lora": "lora",
        "cellpatch.probing.probes.LinearProbe": "linear_probe",
        "cellpatch.probing.probes.KNNProbe": "knn",
        "cellpatch.probing.probes.Prototypes": "prototypes",
    },
    "augment": {
        "cellpatch.data.augment.DeviceAugment": "device",
        "cellpatch.data.augment.AlbumentationsAugment": "albumentations",
    },
    "optics": {"cellpatch.optics.conditions.OpticsSettings": "blur"},
    "trainer": {"pytorch_lightning.Trainer": "lightning"},
    "logger.wandb": {"cellpatch.runs.tracking.settings.Wandb": "wandb"},
    "logger.tensorboard": {"cellpatch.runs.tracking.settings.TensorBoard": "tensorboard"},
    "logger.csv": {"cellpatch.runs.tracking.settings.Csv": "csv"},
    "logger.mlflow": {"cellpatch.runs.tracking.settings.Mlflow": "mlflow"},
}


def name_of(node_path: str, path: object) -> str:
    """The short name of an import path at a node of the config; raises ValueError if it may not stand there."""
    allowed = NAMES.get(node_path)
    if allowed is None:
        raise ValueError(f"{node_path} takes no _target_, but got {path!r}; one stands at {', '.join(NAMES)}")
    if path not in allowed:
        raise ValueError(
            f"{node_path}._target_ must be one of {', '.join(allowed)}, but got {path!r}; "
            "a class of your own gets a line in cellpatch/config/names.py"
        )
    return allowed[str(path)]


def path_of(node_path: str, name: object) -> str:
    """The import path of a short name; raises ValueError if there is no such component at that node."""
    paths = {short: path for path, short in NAMES.get(node_path, {}).items()}
    if name not in paths:
        raise ValueError(f"{node_path}: no component {name!r}; there are {', '.join(paths) or 'none'}")
    return paths[str(name)]
