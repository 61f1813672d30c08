int is_word_part(int c);
long count_words(const char *text);
