"""Installs the presets of configs/ as a part of the package, which pyproject.toml cannot do."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["enas*"]), "enas.configs"],
    package_dir={"enas.configs": "configs"},
    package_data={
        "enas": ["py.typed"],
        "enas.data": ["pydoc.*", "markov.zip"],
        "enas.configs": ["architectures/*.json"],
        "enas.report": ["page.html"],
        "enas.export": ["card.jinja", "copied/*.py"],
    },
)
