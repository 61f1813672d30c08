#include "words.h"

long count_words(const char *text) {
    long count = 0;
    for (int inside = 0; *text; text++) {
        int part = is_word_part((unsigned char)*text);
        count += part && !inside;
        inside = part;
    }
    return count;
}
