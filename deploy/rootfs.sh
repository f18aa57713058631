#!/bin/sh
# Lays out the files of the container image: in DIR/root the binary without debug information and the
# shared libraries it is linked to (none if it is linked statically), in DIR/data the data directory.
#
#     deploy/rootfs.sh BINARY DIR
#
# deploy/Dockerfile runs it in its first stage and `make image` on this machine, so that both give the
# same image. Needs strip (it comes with the linker) and ldd.
set -eu

if [ $# -ne 2 ] || [ ! -f "$1" ]; then
  echo "usage: deploy/rootfs.sh BINARY DIR" >&2
  exit 2
fi
binary="$1"
root="$2/root"

mkdir -p "$root/usr/bin" "$root/etc" "$2/data"
# Symbols stay: without them the backtrace of a panic says nothing.
strip --strip-debug -o "$root/usr/bin/raftcache" "$binary"
chmod 755 "$root/usr/bin/raftcache"

# A library goes where the loader looks for it: under its own path.
take() {
  mkdir -p "$root$(dirname "$1")"
  cp -L "$1" "$root$1"
}

# ldd says "name => path (address)", for the loader "path (address)", and fails if there is none.
libraries="$(ldd "$binary" 2> /dev/null | sed -nE 's|^[^/]*(/[^ ]+) \(0x.*|\1|p')" || libraries=""
for library in $libraries; do
  take "$library"
  case "$library" in
    */libc.so.6)
      # glibc before 2.34 loads these when it first resolves a name; later ones have them built in.
      for name in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
        if [ -e "$(dirname "$library")/$name" ]; then take "$(dirname "$library")/$name"; fi
      done
      ;;
  esac
done
echo "hosts: files dns" > "$root/etc/nsswitch.conf"
