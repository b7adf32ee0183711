/**
 * Key of the advisory lock under which one sealer at a time seals, and no amendment is made meanwhile. The primary key
 * on the number of a seal ensures the first without it.
 */
export const sealingLock = 0x5ea1;
