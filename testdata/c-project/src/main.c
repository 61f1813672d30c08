#include <stdio.h>
#include "words.h"

#define GREETING "words"

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        printf("%s: %ld\n", GREETING, count_words(argv[i]));
    return 0;
}
