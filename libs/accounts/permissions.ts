/**
 * What a key can be allowed to do: the permissions of the product guide ("Permissions"), and those that the guide does
 * not name.
 */
export const permissions = [
  ...(['domain.create', 'domain.read', 'domain.verify', 'domain.update', 'domain.delete'] as const),
  ...(['mailbox.create', 'mailbox.read', 'mailbox.update', 'mailbox.delete'] as const),
  ...(['key.create', 'key.read', 'key.update', 'key.delete'] as const),
  ...(['owner.create', 'owner.read', 'owner.delete'] as const),
  ...(['webhook.create', 'webhook.read', 'webhook.update', 'webhook.delete'] as const),
] as const;
export type Permission = (typeof permissions)[number];

/** The values that a key can be granted: a permission, or the wildcard of a kind. */
export const grantable: readonly string[] = [...permissions, 'domain.*', 'mailbox.*', 'key.*', 'owner.*', 'webhook.*'];

/** Built-in roles. A key stores the name of its role, so that it gains what is added to the role. */
export const roles = {
  'root:full': ['domain.*', 'mailbox.*', 'key.*', 'owner.*', 'webhook.*'],
  'root:readonly': ['domain.read', 'mailbox.read', 'key.read', 'owner.read', 'webhook.read'],
} as const satisfies Record<string, readonly string[]>;
export type Role = keyof typeof roles;

export const isRole = (text: string): text is Role => Object.hasOwn(roles, text);

/**
 * Tells whether the granted permissions include the one that is needed; `domain.*` includes every `domain.…`, and
 * itself.
 */
export const allows = (granted: readonly string[], needed: string): boolean =>
  granted.includes(needed) || granted.includes(`${needed.slice(0, needed.indexOf('.'))}.*`);

/** Either a role of `roles`, or permissions of `grantable`. */
export type Grant = { readonly role: string } | { readonly permissions: readonly string[] };

/** What a key may do: the role that it has, if any, and the permissions that it has by its role or one by one. */
export interface Rights {
  readonly role: string | null;
  readonly permissions: readonly string[];
}

/**
 * Tells whether a key can give what another key gets: nothing that it may not do itself. A role gains what is added to
 * it later, so only a key that has the role, or the role of everything, can give it.
 */
export const mayGive = (own: Rights, grant: Grant): boolean =>
  'role' in grant
    ? own.role === grant.role || own.role === ('root:full' satisfies Role)
    : grant.permissions.every((permission) => allows(own.permissions, permission));
