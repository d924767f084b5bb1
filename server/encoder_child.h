/* encoder_child.h - what stands between the server and the encoder's own program: the server runs
 * itself with a word of its own, settles what only the child can settle, and becomes the program.
 */
#ifndef SERVER_ENCODER_CHILD_H
#define SERVER_ENCODER_CHILD_H

/* argv[1] that asks for it; then the parent's process id, then the program and its words. */
#define ENCODER_CHILD_WORD "encoder-child"

/* Does not return when all goes well. 127: the program cannot be run, said on standard error. */
int encoder_child_main(int argc, char **argv);

#endif
