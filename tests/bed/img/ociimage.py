#!/usr/bin/env python3
"""Builds a one-layer OCI image archive, byte for byte reproducible, with no daemon and no registry.

usage: ociimage.py --out image.tar --name localhost/app:v1 --entrypoint /app [--user UID:GID] [--with-libs] [--ca-certs]
                   [--env K=V] [--describe image.json] SRC=DEST [SRC=DEST ...]

--with-libs copies what ldd names for every SRC, and the dynamic loader, to the same paths.
--ca-certs copies the host's CA bundle to /etc/ssl/certs/ca-certificates.crt.
--describe writes what is in the archive, read back from it: {"name", "digest", "user", "entrypoint", "env", "workdir",
"copied": {path: {"mode", "size", "sha256"}}, "base": {...}}. `copied` is what a Dockerfile would COPY (the named files and the
CA bundle), `base` what its base image would bring (libraries, accounts).
Import with: ctr -n k8s.io images import image.tar
"""
import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def libs_of(path):
    run = subprocess.run(["ldd", path], capture_output=True, text=True)
    if run.returncode != 0:  # "not a dynamic executable": a static binary needs nothing
        return []
    if "not found" in run.stdout:
        raise SystemExit(f"{path}: unresolved library\n{run.stdout}")
    return re.findall(r"(?:=>\s+|^\s+)(/\S+)\s+\(0x", run.stdout, re.M)


def layer(files):
    """files: {dest: bytes or source path}; returns tar bytes with parents first, sorted, time 0."""
    dirs = {"tmp"}
    for dest in files:
        parts = dest.strip("/").split("/")[:-1]
        dirs.update("/".join(parts[: i + 1]) for i in range(len(parts)))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for d in sorted(dirs):
            info = tarfile.TarInfo(d + "/")
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if d == "tmp" else 0o755
            tar.addfile(info)
        for dest in sorted(files):
            src = files[dest]
            data = src if isinstance(src, bytes) else open(src, "rb").read()
            info = tarfile.TarInfo(dest.lstrip("/"))
            info.size = len(data)
            info.mode = 0o755 if not isinstance(src, bytes) and os.access(src, os.X_OK) else 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def describe(path, copied):
    """What the finished archive says of itself, by following its index as a container engine would."""
    with tarfile.open(path) as archive:
        def blob(descriptor):
            return archive.extractfile("blobs/" + descriptor["digest"].replace(":", "/")).read()

        entry = json.load(archive.extractfile("index.json"))["manifests"][0]
        manifest = json.loads(blob(entry))
        config = json.loads(blob(manifest["config"]))["config"]
        parts = {"copied": {}, "base": {}}
        for descriptor in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(blob(descriptor))) as tar:
                for info in filter(tarfile.TarInfo.isfile, tar):
                    data = tar.extractfile(info).read()
                    parts["copied" if "/" + info.name in copied else "base"]["/" + info.name] = {
                        "mode": f"{info.mode:04o}", "size": info.size, "sha256": hashlib.sha256(data).hexdigest()}
    return {"name": entry["annotations"]["io.containerd.image.name"], "digest": entry["digest"], "user": config["User"],
            "entrypoint": config["Entrypoint"], "env": config["Env"], "workdir": config["WorkingDir"], **parts}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", required=True)
    ap.add_argument("--name", required=True)
    ap.add_argument("--entrypoint", required=True, action="append")
    ap.add_argument("--user", default="65532:65532")
    ap.add_argument("--env", action="append", default=[])
    ap.add_argument("--with-libs", action="store_true")
    ap.add_argument("--ca-certs", action="store_true")
    ap.add_argument("--describe", metavar="JSON")
    ap.add_argument("files", nargs="+", metavar="SRC=DEST")
    a = ap.parse_args()

    uid, _, gid = a.user.partition(":")
    copied = set()
    files = {
        "/etc/passwd": f"root:x:0:0::/:/none\napp:x:{uid}:{gid or uid}::/:/none\n".encode(),
        "/etc/group": f"root:x:0:\napp:x:{gid or uid}:\n".encode(),
        "/etc/nsswitch.conf": b"hosts: files dns\n",
    }
    for pair in a.files:
        src, _, dest = pair.partition("=")
        files[dest] = src
        copied.add(dest)
        if a.with_libs:
            for lib in libs_of(src):
                files[lib] = lib
    env = ["PATH=/usr/local/bin:/usr/bin:/bin"] + a.env
    if a.ca_certs:
        files[CA_BUNDLE] = CA_BUNDLE
        copied.add(CA_BUNDLE)
        env.append("SSL_CERT_FILE=" + CA_BUNDLE)

    blobs = {}

    def blob(data, media):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}

    def js(obj):
        return json.dumps(obj, sort_keys=True, separators=(",", ":")).encode()

    tar = layer(files)
    lay = blob(tar, "application/vnd.oci.image.layer.v1.tar")
    config = blob(js({
        "architecture": ARCH, "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"User": a.user, "Entrypoint": a.entrypoint, "Env": env, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [lay["digest"]]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "ociimage.py"}],
    }), "application/vnd.oci.image.config.v1+json")
    manifest = blob(js({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [lay],
    }), "application/vnd.oci.image.manifest.v1+json")
    manifest["platform"] = {"architecture": ARCH, "os": "linux"}
    manifest["annotations"] = {
        "io.containerd.image.name": a.name,
        "org.opencontainers.image.ref.name": a.name.rpartition(":")[2],
    }
    index = js({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]})

    tmp = a.out + ".tmp"
    with tarfile.open(tmp, "w", format=tarfile.GNU_FORMAT) as out:
        members = [("oci-layout", js({"imageLayoutVersion": "1.0.0"})), ("index.json", index)]
        members += [("blobs/sha256/" + d, blobs[d]) for d in sorted(blobs)]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            out.addfile(info, io.BytesIO(data))
    os.replace(tmp, a.out)
    if a.describe:
        with open(a.describe, "w") as out:
            json.dump(describe(a.out, copied), out, indent=1, sort_keys=True)
    print(f"{a.out}: {a.name} {manifest['digest']} {len(tar)} bytes, {len(files)} files")


main()
