/* No fault: the machine runs the program to its end. */
int bitnet_main(void);
int bitnet_main(void) { return 7; }
