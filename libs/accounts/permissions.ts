/** What a key may do: of domains as in the product guide ("Permissions"), and what it does not name. */
export const permissions = [
  ...(['domain.create', 'domain.read', 'domain.verify', 'domain.update', 'domain.delete'] as const),
  ...(['mailbox.create', 'mailbox.read', 'mailbox.update', 'mailbox.delete'] as const),
] as const;
export type Permission = (typeof permissions)[number];

/** What a key can be given: a permission, or the wildcard of its kind. */
export const grantable: readonly string[] = [...permissions, 'domain.*', 'mailbox.*'];

/** Built-in roles. A key keeps the name of its role, so that it grows with the role. */
export const roles = {
  'root:full': ['domain.*', 'mailbox.*'],
  'root:readonly': ['domain.read', 'mailbox.read'],
} as const satisfies Record<string, readonly string[]>;
export type Role = keyof typeof roles;

export const isRole = (text: string): text is Role => Object.hasOwn(roles, text);

/** Whether the granted permissions satisfy the one that is needed; `domain.*` satisfies every `domain.…`. */
export const allows = (granted: readonly string[], needed: Permission): boolean =>
  granted.includes(needed) || granted.includes(`${needed.slice(0, needed.indexOf('.'))}.*`);
