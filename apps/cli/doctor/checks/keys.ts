import { existsSync, statSync } from 'node:fs';
import { isSigned, keyFiles, KeyUnusable, newestSeal, readTrustedKeys, SealingKey } from '@app/audit';
import { DohClient } from '@app/dns';
import { SigningKey, SigningKeyUnusable, template } from '@app/domain-connect';
import { checkMailboxKeyRing, mailboxKeyRing } from '@app/mailbox-keys';
import { SettingsInvalid, type Settings } from '@app/runtime';
import { checkSecretKeys, SecretKeys } from '@app/webhooks';
import type { Pool } from 'pg';
import { check, failed, ok, skipped, warning, type Finding } from '../check';
import { databaseFault, withDatabase } from '../with-database';

const needs = [
  ...(['DATABASE_URL', 'DATABASE_DIRECT_URL', 'SENDMUX_DATA_DIR'] as const),
  ...(['AUDIT_SIGNING_KEY_FILE', 'AUDIT_PUBLIC_KEYS_FILE', 'PERSONAL_DATA_KEYS', 'WEBHOOK_SECRET_KEYS'] as const),
  ...(['DOMAIN_CONNECT_PROVIDERS', 'DOMAIN_CONNECT_KEY_FILE', 'DOMAIN_CONNECT_KEY_NAME', 'DOH_RESOLVERS'] as const),
];
type Given = Pick<Settings, (typeof needs)[number]>;

/** Looks at the keys that sign, and at those that encrypt what is stored. */
export const keys = check({
  name: 'keys',
  needs,
  withinMs: 10_000,
  remedy: 'Look at the files of the keys, and at the database.',
  run: async ({ settings }) => {
    const stored = (work: (pool: Pool) => Promise<Finding>, of: string): Promise<Finding> =>
      withDatabase(settings.DATABASE_DIRECT_URL ?? settings.DATABASE_URL, work)
        .catch((error: unknown) => databaseFault(error, 'DATABASE_URL'))
        .then((finding) => ({ ...finding, of }));
    return Promise.all([
      stored((pool) => sealing(settings, pool), 'seals'),
      stored((pool) => personalData(settings, pool), 'PERSONAL_DATA_KEYS'),
      stored((pool) => webhooks(settings, pool), 'WEBHOOK_SECRET_KEYS'),
      domainConnect(settings).then((finding) => ({ ...finding, of: 'Domain Connect' })),
    ]);
  },
});

async function sealing(settings: Given, pool: Pool): Promise<Finding> {
  const files = keyFiles(settings.SENDMUX_DATA_DIR);
  const own = settings.AUDIT_SIGNING_KEY_FILE ?? files.signing;
  const trustedFile = settings.AUDIT_PUBLIC_KEYS_FILE ?? files.trusted;
  const newest = await newestSeal(pool);
  if (settings.AUDIT_SIGNING_KEY_FILE === undefined && !existsSync(own))
    return newest === undefined
      ? skipped('Nothing is sealed yet: the sealer makes a key at its first start.')
      : skipped('The key of the sealer is not on this machine. Look at it where the sealer runs.');
  try {
    const key = SealingKey.read(own);
    const trusted = readTrustedKeys(trustedFile);
    if (!trusted.has(key.id))
      return warning(
        `${trustedFile} lacks the public key of ${own}, so its seals count for nobody: add it (docs/audit.md).`,
      );
    if (newest && !isSigned(newest, trusted))
      return failed(
        `The newest seal is signed by none of the keys in ${trustedFile}: give all sealers the same key, or add the public key of the older one.`,
      );
    if ((statSync(own).mode & 0o077) !== 0)
      return warning(`${own} can be read by others than its owner: chmod 600 it.`);
    return ok(`The key ${key.id} signs, and is trusted.`);
  } catch (error) {
    if (!(error instanceof KeyUnusable)) throw error;
    return failed(`${error.message}.`);
  }
}

async function personalData({ PERSONAL_DATA_KEYS: ring }: Given, pool: Pool): Promise<Finding> {
  if (!ring)
    return failed(
      'It is not set, and gateway, provisioning and webhooks do not start without: set what the others have, or make one (docs/settings.md).',
    );
  return checked(ring, () => checkMailboxKeyRing(pool, mailboxKeyRing(ring)));
}

async function webhooks({ WEBHOOK_SECRET_KEYS: ring }: Given, pool: Pool): Promise<Finding> {
  if (!ring) return skipped('It is not set: teams cannot create webhooks.');
  return checked(ring, () => checkSecretKeys(pool, new SecretKeys(ring)));
}

async function checked(ring: ReadonlyMap<string, Buffer>, work: () => Promise<void>): Promise<Finding> {
  try {
    await work();
    return ok(`What is stored opens with ${[...ring.keys()].map((id) => `"${id}"`).join(', ')}.`);
  } catch (error) {
    if (!(error instanceof SettingsInvalid)) throw error;
    return failed(error.message.replace(/\s+/g, ' '));
  }
}

async function domainConnect(settings: Given): Promise<Finding> {
  const { DOMAIN_CONNECT_PROVIDERS: providers, DOMAIN_CONNECT_KEY_FILE: file, DOMAIN_CONNECT_KEY_NAME } = settings;
  if (providers.length === 0 || file === undefined) return skipped('DOMAIN_CONNECT_PROVIDERS names no provider.');
  let wanted: readonly string[];
  try {
    wanted = SigningKey.read(file).records();
  } catch (error) {
    if (!(error instanceof SigningKeyUnusable)) throw error;
    return failed(`${error.message} \`sendmux domain-connect key\` makes one.`);
  }
  const name = `${DOMAIN_CONNECT_KEY_NAME}.${template.syncPubKeyDomain}`;
  const client = new DohClient({ url: settings.DOH_RESOLVERS[0]!, timeoutMs: 4_000, sessions: 1 });
  try {
    const answer = await client.txt(name);
    if (answer.kind === 'unreachable' || answer.kind === 'servfail')
      return skipped(`The resolver does not say what is published at ${name}: see \`resolver\`.`);
    const published: readonly string[] = answer.kind === 'records' ? answer.records : [];
    return wanted.every((record) => published.includes(record))
      ? ok(`Its key is published at ${name}.`)
      : failed(
          `The TXT records at ${name} are not those of ${file}, so providers refuse our links: publish what \`sendmux domain-connect key\` prints.`,
        );
  } finally {
    client.close();
  }
}
