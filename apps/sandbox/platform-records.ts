import { existsSync } from 'node:fs';
import { SigningKey, template } from '@app/domain-connect';
import { defaultCanary } from '@app/runtime';

/** Where the sandbox is reached. */
export class SandboxAddress {
  /** @param host with its port. */
  constructor(public host: string) {}
}

/** The key of Domain Connect whose public half is published, if its file is there. */
export interface PublishedKey {
  readonly file: string | undefined;
  readonly name: string;
}

/**
 * Gives the TXT records that are there without being placed: the canary, the public key of Domain Connect, and for
 * every zone the name of a provider, which is the sandbox itself.
 *
 * @param name in lower case, without the trailing dot.
 */
export function platformRecords(name: string, address: SandboxAddress, key: PublishedKey): string[] {
  if (name === defaultCanary) return ['The scheduler looks here before it looks at domains.'];
  if (name === `${key.name}.${template.syncPubKeyDomain}` && key.file !== undefined && existsSync(key.file))
    return SigningKey.read(key.file).records();
  if (name.startsWith('_domainconnect.')) return [`${address.host}/domain-connect`];
  return [];
}
