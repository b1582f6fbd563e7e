/*
 * Embeds a file into an object file, by its path as the assembler sees it (builds run in the top
 * of the build tree):
 *
 *     CAR_EMBED(test_kernels, "tests/kernels/test_kernels.fatbin");
 *     ... cuModuleLoadData(&module, test_kernels) ...; test_kernels_end - test_kernels bytes
 *
 * Aligned as fatbins want it. The symbols are hidden: they do not leave the program or library.
 */
#ifndef CAR_EMBED_H
#define CAR_EMBED_H

#define CAR_EMBED(symbol, path)                                                                    \
    __asm__(".pushsection .rodata." #symbol ",\"a\",%progbits\n"                                   \
            ".balign 64\n"                                                                         \
            ".globl " #symbol "\n.hidden " #symbol "\n" #symbol ":\n"                              \
            ".incbin \"" path "\"\n"                                                               \
            ".globl " #symbol "_end\n.hidden " #symbol "_end\n" #symbol "_end:\n"                  \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const unsigned char symbol[] __attribute__((visibility("hidden")));                     \
    extern const unsigned char symbol##_end[] __attribute__((visibility("hidden")))

#endif /* CAR_EMBED_H */
