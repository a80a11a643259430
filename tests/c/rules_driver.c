/* rules_driver.c - the rule that each line of the standard input matches: its number from 0, or the number of rules. */
#include <stdio.h>
#include <string.h>
#include "bitnet_rules.h"

int main(void)
{
    static char line[4096];
    static uint32_t ids[256];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint32_t n = (uint32_t)strcspn(line, "\n");
        printf("%u\n", (unsigned)bitnet_match(&bitnet_rule_table, (const uint8_t *)line, n, ids, 256u));
    }
    return 0;
}
