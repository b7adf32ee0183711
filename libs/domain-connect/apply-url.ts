import type { SigningKey } from './signing-key';
import { providerId, serviceId, type Variables } from './template';

/** What a link to a provider asks it to do. */
export interface Application {
  /** The zone at the provider. */
  readonly zone: string;
  /** The domain, in the zone or its top. */
  readonly domain: string;
  readonly variables: Variables;
  readonly groups: readonly string[];
  /** Where the provider sends the browser afterwards. */
  readonly returnTo: string;
}

/** Writes a value of a query so that every encoder writes it in the same way (RFC 3986 section 2.3). */
const encoded = (value: string): string =>
  encodeURIComponent(value).replace(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);

/**
 * Makes the link that has a provider apply the template ("Apply Template URL"). The signature is that of the query
 * before it ("Digitally Sign Requests").
 *
 * @param prefix `urlSyncUX` of the provider.
 * @param keyName the name of the key's TXT records below the `syncPubKeyDomain` of the template.
 */
export function applyUrl(
  prefix: string,
  { zone, domain, variables, groups, returnTo }: Application,
  key: SigningKey,
  keyName: string,
): string {
  const host = domain === zone ? '' : domain.slice(0, -zone.length - 1);
  const fields = [
    ['domain', zone],
    ...(host === '' ? [] : [['host', host]]),
    ...Object.entries(variables),
    ['groupId', groups.join(',')],
    ['redirect_uri', returnTo],
  ] as const;
  const query = fields.map(([name, value]) => `${name}=${encoded(value)}`).join('&');
  const path = `v2/domainTemplates/providers/${providerId}/services/${serviceId}/apply`;
  return `${prefix.replace(/\/$/, '')}/${path}?${query}&sig=${encoded(key.sign(query))}&key=${encoded(keyName)}`;
}
