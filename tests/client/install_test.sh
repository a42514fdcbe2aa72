#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# install_test - a program builds and links against what is installed.
#
#	install_test.sh BUILD_DIR SOURCE_DIR CC CXX [FLAGS]
#
# In C99 and in C++, through pkg-config and through find_package. FLAGS are
# the sanitizers' that the library was built with. Only kvd_* is exported.
set -eu
build=$1 source=$2 cc=$3 cxx=$4 flags=${5-}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

cmake --install "$build" --prefix "$tmp/usr" >"$tmp/log" || {
	cat "$tmp/log"
	exit 1
}
lib=$(dirname "$(find "$tmp/usr" -name libkvd.so)")
export PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib
# The files name the prefix they were configured for.
pc="pkg-config --define-variable=prefix=$tmp/usr"

diff <(cd "$tmp/usr/include" && find . -type f | sort) - <<end
./kvd/events.h
./kvd/geometry.h
./kvd/kvd.h
./kvd/profile.h
end
diff <(nm -D --defined-only "$lib/libkvd.so" | awk '{print $3}' |
       sed 's/@.*//' | grep -v '^KVD_0\.1$' | sort) \
     <(sed -n 's/^\t\(kvd_.*\);/\1/p' "$source/client-lib/libkvd.map" | sort)
# Every function that the headers declare is exported.
cat "$tmp"/usr/include/kvd/*.h | tr '\n' ' ' | sed 's|/\*|\n/*|g' |
	sed 's|/\*.*\*/||' | grep -oE '\bkvd_[a-z_]+\(' | tr -d '(' |
	sort -u | while read -r f; do
	grep -q "	$f;" "$source/client-lib/libkvd.map" || {
		echo "$f is declared, but not exported"
		exit 1
	}
done

cat >"$tmp/program.c" <<'end'
#include <stdio.h>
#include <kvd/kvd.h>
#include <kvd/events.h>
#include <kvd/profile.h>
int main(void)
{
	struct kvd_geometry g = { sizeof(struct kvd_geometry) };
	struct kvd_group group = { 1, 1, 0, 64, 64, 0, 0 };
	g.page_tokens = 64;
	g.k_format = g.v_format = KVD_F16;
	g.nr_groups = 1;
	g.groups[0] = group;
	printf("%s %d\n", kvd_format_name(KVD_BF16),
	       kvd_geometry_check(&g) == NULL);
	kvd_close(NULL);
	kvd_profile_free(NULL);
	return 0;
}
end
cp "$tmp/program.c" "$tmp/program.cc"
warn="-Wall -Wextra -Werror -pedantic"
# shellcheck disable=SC2046,SC2086
$cc -std=c99 $warn -Wno-missing-field-initializers $flags "$tmp/program.c" \
	$($pc --cflags --libs kvd) -o "$tmp/c99"
# shellcheck disable=SC2046,SC2086
$cxx $warn -Wno-missing-field-initializers $flags "$tmp/program.cc" \
	$($pc --cflags --libs kvd) -o "$tmp/cxx"

cat >"$tmp/CMakeLists.txt" <<'end'
cmake_minimum_required(VERSION 3.25)
project(program C CXX)
find_package(kvd 0.1 REQUIRED)
add_executable(package_c program.c)
add_executable(package_cxx program.cc)
target_link_libraries(package_c kvd::kvd)
target_link_libraries(package_cxx kvd::kvd)
end
cmake -S "$tmp" -B "$tmp/b" -DCMAKE_PREFIX_PATH="$tmp/usr" \
	-DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
	-DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" >"$tmp/log" &&
	cmake --build "$tmp/b" >>"$tmp/log" || {
	cat "$tmp/log"
	exit 1
}
for p in c99 cxx b/package_c b/package_cxx; do
	diff <("$tmp/$p") <(echo "bf16 1")
done
