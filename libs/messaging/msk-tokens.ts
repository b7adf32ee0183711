import { within } from '@app/runtime';
import { KafkaAway } from './kafka-errors';

/** Seconds for which a token of Amazon MSK is valid: the longest that its brokers take. */
const lifetime = 900;

/**
 * Makes a token by which the brokers of Amazon MSK know an identity of IAM: a URL that is signed for the action
 * `kafka-cluster:Connect` (Signature Version 4, in the query), in base64url. The credentials are those that the AWS SDK
 * finds, which renews them; the brokers accept the token through SASL/OAUTHBEARER.
 *
 * @param timeoutMs milliseconds for the credentials: some of their sources answer when they like.
 * @throws {KafkaAway} when there are no credentials.
 */
export async function mskToken(region: string, timeoutMs = 10_000): Promise<string> {
  try {
    return await within(timeoutMs, signedUrl(region));
  } catch (error) {
    // The provider would go on waiting for a source that does not answer.
    credentials = undefined;
    throw new KafkaAway(`No token for Kafka: ${(error as Error).message}`, { cause: error });
  }
}

async function signedUrl(region: string): Promise<string> {
  const [{ defaultProvider }, { SignatureV4 }, { Sha256 }] = await load();
  const hostname = `kafka.${region}.amazonaws.com`;
  const signer = new SignatureV4({
    service: 'kafka-cluster',
    region,
    credentials: (credentials ??= defaultProvider()),
    sha256: Sha256,
    applyChecksum: false,
  });
  const { query } = await signer.presign(
    {
      method: 'GET',
      protocol: 'https:',
      hostname,
      path: '/',
      headers: { host: hostname },
      query: { Action: 'kafka-cluster:Connect' },
    },
    { expiresIn: lifetime },
  );
  const parameters = new URLSearchParams(query as Record<string, string>);
  // The brokers want it, and it is no part of what is signed.
  parameters.set('User-Agent', 'sendmux-domains');
  return Buffer.from(`https://${hostname}/?${parameters.toString()}`).toString('base64url');
}

/** Loads the AWS SDK, which few processes need for this. */
const load = () =>
  Promise.all([
    import('@aws-sdk/credential-provider-node'),
    import('@smithy/signature-v4'),
    import('@smithy/core/checksum'),
  ]);

/** The provider of all tokens: it keeps the credentials until they expire. */
let credentials: ReturnType<Awaited<ReturnType<typeof load>>[0]['defaultProvider']> | undefined;
