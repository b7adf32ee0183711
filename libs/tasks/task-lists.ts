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
