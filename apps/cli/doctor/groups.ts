/** The consumer groups of the apps. */
export const groupsOfApps = ['provisioning', 'verification-scheduler', 'notifier', 'webhooks'] as const;
