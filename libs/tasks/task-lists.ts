/** The lists of tasks of provisioning. Commands of an operator put tasks on them too, beside the events. */
export const provisioningLists = {
  /** Domains that need a change in the mail server or SES; a key is the id of a domain. */
  provisioning: 'provisioning',
  /**
   * Changes to the mail server; a key is the id of a mailbox or a domain, or stands for the relays or for the mail of
   * roles.
   */
  placement: 'placement',
} as const;

/** The kind of a task that makes anew what somebody has found to differ from the log. */
export const reconcileTask = 'Reconcile';

const reconciled = 'reconcile/';

/**
 * Gives the key of such a task of a domain or mailbox on the list `placement`. It is another one than that of the task
 * of an event, which would take its place: the rest of that task is to write what the event says.
 */
export const reconcileKey = (id: string): string => `${reconciled}${id}`;

/** Gives the id of the domain or mailbox that a key names, and whether all of it is to be made anew. */
export const ofReconcileKey = (key: string): { readonly id: string; readonly isAnew: boolean } =>
  key.startsWith(reconciled) ? { id: key.slice(reconciled.length), isAnew: true } : { id: key, isAnew: false };
