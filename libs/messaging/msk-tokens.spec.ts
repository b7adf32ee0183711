import { createHash, createHmac } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KafkaAway } from './kafka-errors';
import { mskToken } from './msk-tokens';

const secret = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';

describe('a token of Amazon MSK', () => {
  const before = { ...process.env };
  beforeEach(() =>
    Object.assign(process.env, {
      AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
      AWS_SECRET_ACCESS_KEY: secret,
      AWS_SESSION_TOKEN: 'a/session+token==',
    }),
  );
  afterEach(() => {
    process.env = { ...before };
  });

  it('is waited for no longer than it may take, and is there once the credentials are', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-msk-'));
    const file = join(directory, 'config');
    const credentials = JSON.stringify({ Version: 1, AccessKeyId: 'AKIDEXAMPLE', SecretAccessKey: secret });
    writeFileSync(join(directory, 'credentials.json'), credentials);
    const command = `sleep 0.8; touch ${directory}/asked; cat ${directory}/credentials.json`;
    writeFileSync(file, `[profile slow]\ncredential_process = ${command}\n`);
    const given = { ...process.env };
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN']) delete process.env[name];
    Object.assign(process.env, { AWS_CONFIG_FILE: file, AWS_PROFILE: 'slow' });
    await expect(mskToken('eu-west-1', 250)).rejects.toThrow(KafkaAway);
    process.env = given;
    expect(await mskToken('eu-west-1', 500)).toMatch(/^[\w-]+$/);
    // The source that was given up has been asked, and answers at last.
    while (!existsSync(join(directory, 'asked'))) await delay(50);
    await delay(200);
    rmSync(directory, { recursive: true });
  });

  it('is a URL for kafka-cluster:Connect whose signature another computation of Signature Version 4 gives', async () => {
    const token = await mskToken('ap-southeast-2');
    expect(token).toMatch(/^[\w-]+$/);
    const url = new URL(Buffer.from(token, 'base64url').toString());
    expect(url.origin + url.pathname).toBe('https://kafka.ap-southeast-2.amazonaws.com/');
    const given = Object.fromEntries(url.searchParams);
    const { 'X-Amz-Signature': signature, 'X-Amz-Date': time, 'User-Agent': agent, ...signed } = given;
    expect(agent).toBe('sendmux-domains');
    expect(
      Math.abs(Date.parse(time!.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5')) - Date.now()),
    ).toBeLessThan(60_000);
    const day = time!.slice(0, 8);
    expect(signed).toEqual({
      Action: 'kafka-cluster:Connect',
      'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
      'X-Amz-Credential': `AKIDEXAMPLE/${day}/ap-southeast-2/kafka-cluster/aws4_request`,
      'X-Amz-Expires': '900',
      'X-Amz-Security-Token': 'a/session+token==',
      'X-Amz-SignedHeaders': 'host',
    });
    expect(signature).toBe(signatureOf(url.host, { ...signed, 'X-Amz-Date': time! }, day, time!));
  });
});

/** Computes a signature as "Create a signed AWS API request" of the IAM User Guide describes it. */
function signatureOf(host: string, query: Readonly<Record<string, string>>, day: string, time: string): string {
  const encoded = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`);
  const canonicalQuery = Object.keys(query)
    .sort()
    .map((name) => `${encoded(name)}=${encoded(query[name]!)}`)
    .join('&');
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const canonical = ['GET', '/', canonicalQuery, `host:${host}`, '', 'host', sha256('')].join('\n');
  const scope = `${day}/ap-southeast-2/kafka-cluster/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', time, scope, sha256(canonical)].join('\n');
  const key = scope
    .split('/')
    .reduce<string | Buffer>((each, part) => createHmac('sha256', each).update(part).digest(), `AWS4${secret}`);
  return createHmac('sha256', key).update(toSign).digest('hex');
}
