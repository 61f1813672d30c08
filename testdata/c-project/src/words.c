#include <ctype.h>
#include "words.h"

int is_word_part(int c) { return isalnum(c) || c == 39; }
