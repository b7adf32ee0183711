import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaCluster } from '../../local/embedded-kafka';
import { freePort } from '../../local/embedded-postgres';
import { certificatesFor, type Certificates } from './certificates';
import { testKafka } from './kafka';

const listeners = [
  { name: 'tls', protocol: 'SSL' },
  { name: 'mutual', protocol: 'SSL' },
  { name: 'password', protocol: 'SASL_SSL' },
  { name: 'oauth', protocol: 'SASL_SSL' },
] as const;

const modules = 'org.apache.kafka.common.security';

export type SecureListener = (typeof listeners)[number]['name'];

export interface SecureKafka {
  readonly certificates: Certificates;
  /** Gives the address (`host:port`) of a listener. */
  broker(listener: SecureListener): string;
  /** Writes a file that is removed with the broker; gives its path. */
  file(name: string, text: string): string;
  destroy(): Promise<void>;
}

/**
 * Starts a real broker with listeners for clients that do not trust the network: `tls` has a certificate for 127.0.0.1,
 * `mutual` wants one of the same authority from the client, `password` the user and password of `SASL/PLAIN` below, and
 * `oauth` a token that is not signed (RFC 7515 appendix A.5), and a new one every 12 seconds.
 */
export async function startSecureKafka(): Promise<SecureKafka> {
  const certificates = certificatesFor('127.0.0.1');
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-secure-kafka-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const ports = await Promise.all(listeners.map(() => freePort()));
  let kafka: KafkaCluster;
  try {
    kafka = await testKafka(1, {
      listeners: listeners.map((listener, index) => ({ ...listener, port: ports[index]! })),
      properties: {
        'ssl.keystore.type': 'PEM',
        'ssl.keystore.location': file('broker.pem', certificates.good.key + certificates.good.cert),
        'ssl.truststore.type': 'PEM',
        'ssl.truststore.location': file('ca.pem', certificates.ca),
        'listener.name.mutual.ssl.client.auth': 'required',
        'listener.name.password.sasl.enabled.mechanisms': 'PLAIN',
        'listener.name.password.plain.sasl.jaas.config': `${modules}.plain.PlainLoginModule required user_sendmux="secret";`,
        'listener.name.oauth.sasl.enabled.mechanisms': 'OAUTHBEARER',
        'listener.name.oauth.oauthbearer.connections.max.reauth.ms': '12000',
        'listener.name.oauth.oauthbearer.sasl.jaas.config': `${modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";`,
      },
    });
  } catch (error) {
    rmSync(directory, { recursive: true });
    throw error;
  }
  return {
    certificates,
    file,
    broker: (listener) => `127.0.0.1:${ports[listeners.findIndex(({ name }) => name === listener)]}`,
    destroy: async () => {
      await kafka.destroy();
      rmSync(directory, { recursive: true });
    },
  };
}
