/* folders.h - keeps from answers where things lie on the machine. What a fault says is written for
 * the log, with whole paths; who asked is told enough to name the file, and no more. Pure; any
 * thread. */
#ifndef SERVER_FOLDERS_H
#define SERVER_FOLDERS_H

/* In place, never longer: a path in the directory `store` becomes one relative to it
 * ("ledger/data.mdb"), the directory itself "the store" where its name is not shorter; of any other
 * absolute path the last name stays. */
void folders_hide(char *text, const char *store);

#endif
