#!/bin/bash
# build.sh: builds the reader if this state of its sources was not built yet, and prints the folder that it lies in:
# lib/*.jar and start.jsa, an archive of the classes that reading sample/ loads, which halves the time of a start.
# Owns ${XDG_CACHE_HOME:-~/.cache}/evp-bed/delta-reader/<hash of the sources>.
# Needs JDK 17 and Maven the first time. Safe to run several at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/evp-bed/delta-reader
# One core and a short life: the cheap collector and compiler start fastest. Must be those of ../delta-dump.
JVM=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData)
sources=(src/main/java/evp/oracle/*.java)
out=$cache/$(cat build.sh pom.xml "${sources[@]}" | sha256sum | cut -c1-12)
if [ ! -d "$out" ]; then
  mkdir -p "$cache"
  exec 9> "$cache/lock"
  flock 9
  if [ ! -d "$out" ]; then
    rm -rf "$cache"/*.tmp
    mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out.tmp/lib" >&2
    javac --release 17 -Xlint:all,-classfile -Werror -proc:none -cp "$out.tmp/lib/*" -d "$out.tmp/classes" "${sources[@]}" >&2
    jar --create --file "$out.tmp/lib/delta-reader.jar" -C "$out.tmp/classes" .
    rm -r "$out.tmp/classes"
    mv "$out.tmp" "$out"
    # The archive remembers where the jars lie, so it is made in place; without it, or with another JVM, all works too.
    if ! java -XX:ArchiveClassesAtExit="$out/start.jsa.tmp" "${JVM[@]}" -cp "$out/lib/*" evp.oracle.DeltaDump sample \
      > /dev/null 2> "$cache/sample.log"; then
      cat "$cache/sample.log" >&2
      rm -rf "$out"
      exit 1
    fi
    mv "$out/start.jsa.tmp" "$out/start.jsa"
  fi
fi
echo "$out"
