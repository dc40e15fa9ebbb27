#!/bin/sh
# Provides the images of the demonstration study: busybox, with awk or sh as
# the entry point, under the names that the study uses.
#
# The program comes from the first of these that works: this machine's
# busybox-static; the registry's busybox image; Debian's package, unpacked
# without installing it.
set -eu

prefix=${SLUICE_IMAGE_PREFIX:-sluice-demo/}
images="awk:v1:awk sh:v1:sh"

have() { docker image inspect "$1" >/dev/null 2>&1; }

missing=
for i in $images; do
	have "$prefix${i%:*}" || missing="$missing $i"
done
[ -n "$missing" ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/bin" "$work/root/tmp" "$work/root/workspace" "$work/root/etc"
chmod 1777 "$work/root/tmp" # some engines give a mount the mode of what it covers
printf 'root:x:0:0:root:/:/bin/sh\nstudy:x:10000:10000:study:/tmp:/bin/sh\n' >"$work/root/etc/passwd"

static() { # is this a busybox that runs with nothing around it?
	[ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1
}

find_busybox() {
	for path in /bin/busybox /usr/bin/busybox; do
		if static "$path"; then
			cp "$path" "$work/root/bin/busybox"
			return
		fi
	done
	if docker pull -q busybox:1.36 >/dev/null 2>&1; then
		id=$(docker create busybox:1.36)
		docker cp -q "$id:/bin/busybox" "$work/root/bin/busybox" 2>/dev/null || docker cp "$id:/bin/busybox" "$work/root/bin/busybox"
		docker rm "$id" >/dev/null
		return
	fi
	if command -v apt-get >/dev/null 2>&1; then
		(cd "$work" && apt-get download -qq busybox-static >/dev/null 2>&1 && dpkg-deb -x busybox-static_*.deb deb) || true
		if [ -x "$work/deb/bin/busybox" ]; then
			cp "$work/deb/bin/busybox" "$work/root/bin/busybox"
			return
		fi
	fi
	echo "images.sh: no busybox for the demonstration's images: no registry answers and Debian's busybox-static is not here." >&2
	echo "           Install it (apt-get install busybox-static) and try again." >&2
	exit 1
}

find_busybox
chmod 755 "$work/root/bin/busybox"
for applet in $("$work/root/bin/busybox" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$work/root/bin/$applet" 2>/dev/null || true
done

for i in $missing; do
	name=${i%:*} program=${i##*:}
	tar -C "$work/root" -c . | docker import \
		--change "ENTRYPOINT [\"/bin/$program\"]" --change 'ENV PATH=/bin' --change 'WORKDIR /workspace' \
		--message "the demonstration's $program, from busybox" - "$prefix$name" >/dev/null
	echo "made image $prefix$name"
done
