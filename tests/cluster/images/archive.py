"""Writes an image as a docker archive, without a registry: `archive.py NAME ROOT OUT [OPTION...]`, where ROOT holds the files.

Options: --user ID, --env NAME=VALUE, --workdir DIR, and after -- the entrypoint.
"""

import argparse
import hashlib
import io
import json
import tarfile

parser = argparse.ArgumentParser()
parser.add_argument("name")
parser.add_argument("root")
parser.add_argument("out")
parser.add_argument("--user", default="0:0")
parser.add_argument("--workdir", default="/")
parser.add_argument("--env", action="append", default=["PATH=/usr/bin:/bin"])
parser.add_argument("entrypoint", nargs="+")
options = parser.parse_args()


def owned_by_root(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    tar.add(options.root, arcname=".", filter=owned_by_root)
layer = layer.getvalue()
config = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": options.user,
        "Env": options.env,
        "WorkingDir": options.workdir,
        "Entrypoint": options.entrypoint,
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
}
config = json.dumps(config).encode()
manifest = [{"Config": "config.json", "RepoTags": [options.name], "Layers": ["layer.tar"]}]
files = {"config.json": config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
with tarfile.open(options.out, "w") as tar:
    for name, data in files.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
