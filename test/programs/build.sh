# A C program of many files, by make with several jobs, twice: the second has nothing to do.
set -e
mkdir "$MNT/project" && cd "$MNT/project"
for n in $(seq 120); do
  printf '#include <stdio.h>\n#include "all.h"\nint f%d(void) { return %d; }\n' "$n" "$n" > "f$n.c"
done
seq -f 'int f%g(void);' 120 > all.h
{ echo '#include "all.h"'; echo 'int main(void) { int sum = 0;'; seq -f 'sum += f%g();' 120; echo 'return sum == 7260 ? 0 : 1; }'; } > main.c
cat > Makefile <<'MAKE'
SOURCES := $(wildcard *.c)
program: $(SOURCES:.c=.o)
	$(CC) -o $@ $^
%.o: %.c all.h
	$(CC) -g -O1 -c -o $@ $<
MAKE
make -j4 > /dev/null && ./program
make -q || { echo 'make has something to do again'; exit 1; }
touch f7.c && make | grep -c '\-c -o' | grep -qx 1
ar rcs library.a f*.o && nm library.a | grep -q f120 && strip program && ./program
