import { DomainConnect, SigningKey, type Resolver } from '@app/domain-connect';
import { publicUrlOf, type Settings } from '@app/runtime';

type Given = Pick<
  Settings,
  | 'DOMAIN_CONNECT_PROVIDERS'
  | 'DOMAIN_CONNECT_KEY_FILE'
  | 'DOMAIN_CONNECT_KEY_NAME'
  | 'DOMAIN_CONNECT_LOOPBACK'
  | 'PUBLIC_URL'
  | 'HOST'
  | 'PORT'
>;

/**
 * Makes what the settings say of Domain Connect; undefined where they name no provider.
 *
 * @throws {SigningKeyUnusable}
 */
export function domainConnect(resolvers: readonly Resolver[], settings: Given): DomainConnect | undefined {
  const { DOMAIN_CONNECT_PROVIDERS: providers, DOMAIN_CONNECT_KEY_FILE: file } = settings;
  if (providers.length === 0 || file === undefined) return undefined;
  return new DomainConnect(resolvers, {
    providers,
    key: SigningKey.read(file),
    keyName: settings.DOMAIN_CONNECT_KEY_NAME,
    loopback: settings.DOMAIN_CONNECT_LOOPBACK,
    returnTo: `${publicUrlOf(settings)}/setup?returned=domain-connect`,
  });
}
