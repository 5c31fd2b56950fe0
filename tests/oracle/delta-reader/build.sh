#!/bin/bash
# build.sh: builds the reader if this state of its sources was not built yet, and prints the folder with its jars and
# classes. Owns ${XDG_CACHE_HOME:-~/.cache}/evp-bed/delta-reader/<hash of the sources>.
# Needs JDK 17 and Maven the first time. Safe to run several at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/evp-bed/delta-reader
sources=(src/main/java/evp/oracle/*.java)
out=$cache/$(cat build.sh pom.xml "${sources[@]}" | sha256sum | cut -c1-12)
if [ ! -d "$out" ]; then
  mkdir -p "$cache"
  exec 9> "$cache/lock"
  flock 9
  if [ ! -d "$out" ]; then
    rm -rf "$cache"/[0-9a-f]*.tmp
    mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out.tmp/lib" >&2
    mkdir "$out.tmp/classes"
    javac --release 17 -Xlint:all,-classfile -Werror -proc:none -cp "$out.tmp/lib/*" -d "$out.tmp/classes" "${sources[@]}" >&2
    mv "$out.tmp" "$out"
  fi
fi
echo "$out"
