/* Which function of this program an address lies in: from the symbols in its own file. */
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kill_step.h"
#include "support.h"

extern const char __executable_start[], etext[]; /* the linker's */

static const uint8_t *my_file(void)
{
    static const uint8_t *file;
    struct stat facts;
    int fd = file ? -1 : open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return file;
    if (fstat(fd, &facts) == 0)
        file = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED)
        file = NULL;
    close(fd);
    return file;
}

/* Where the file's addresses begin; the first segment that is loaded has the lowest. */
static Elf64_Addr lowest_address(const uint8_t *file)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(file + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD)
            return segments[i].p_vaddr;
    return 0;
}

static const char *name_in(const uint8_t *file, const Elf64_Shdr *sections, int table,
                           Elf64_Addr address)
{
    const Elf64_Sym *symbols = (const Elf64_Sym *)(file + sections[table].sh_offset);
    const char *names = (const char *)file + sections[sections[table].sh_link].sh_offset;
    for (size_t i = 0; i < sections[table].sh_size / sizeof *symbols; i++)
        if (ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC && symbols[i].st_value <= address &&
            address < symbols[i].st_value + symbols[i].st_size)
            return names + symbols[i].st_name;
    return NULL;
}

static const Elf64_Shdr *sections_of(const uint8_t *file)
{
    return (const Elf64_Shdr *)(file + ((const Elf64_Ehdr *)file)->e_shoff);
}

static uintptr_t find_text(const uint8_t *file)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
    const Elf64_Shdr *sections = sections_of(file);
    const char *names = (const char *)file + sections[header->e_shstrndx].sh_offset;
    for (int i = 0; i < header->e_shnum; i++)
        if (strcmp(names + sections[i].sh_name, ".text") == 0)
            return sections[i].sh_addr - lowest_address(file) + (uintptr_t)__executable_start;
    return (uintptr_t)__executable_start;
}

bool kill_is_own(uintptr_t address)
{
    static uintptr_t text;
    if (!text)
        text = my_file() ? find_text(my_file()) : (uintptr_t)__executable_start;
    return address >= text && address < (uintptr_t)etext;
}

const char *kill_function_at(uintptr_t address)
{
    const uint8_t *file = my_file();
    if (!file || !address)
        return "?";
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
    const Elf64_Shdr *sections = sections_of(file);
    Elf64_Addr wanted = address - (uintptr_t)__executable_start + lowest_address(file);
    for (int i = 0; i < header->e_shnum; i++) {
        const char *name = NULL;
        if (sections[i].sh_type == SHT_SYMTAB)
            name = name_in(file, sections, i, wanted);
        if (name)
            return name;
    }
    return "?";
}
