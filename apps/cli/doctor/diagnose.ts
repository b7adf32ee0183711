import { completeEnvironment, loadSettings, secretSettings, SettingsInvalid, TookTooLong, within } from '@app/runtime';
import { failed, skipped, type Check, type Finding } from './check';

/** A finding with the name of its check. */
export interface Line extends Finding {
  readonly check: string;
}

/**
 * Runs checks side by side, each in its own time.
 *
 * @param now the clock of this machine, in milliseconds since the epoch.
 * @returns the lines of each check, in the order of the checks, as soon as it has them.
 */
export function diagnose(
  checks: readonly Check[],
  env: NodeJS.ProcessEnv,
  now: () => number = Date.now,
): readonly Promise<readonly Line[]>[] {
  const mask = masking(env);
  return checks.map(async (check) =>
    (await findingsOf(check, env, now)).map((found) => ({ check: check.name, ...found, message: mask(found.message) })),
  );
}

async function findingsOf(check: Check, env: NodeJS.ProcessEnv, now: () => number): Promise<readonly Finding[]> {
  const over = new AbortController();
  try {
    const settings = loadSettings(env, check.needs);
    const running = check.run({ settings, env, now, signal: over.signal });
    return await within(check.withinMs, running);
  } catch (error) {
    if (error instanceof SettingsInvalid) return [skipped('Its settings have to be mended first: see `settings`.')];
    const why =
      error instanceof TookTooLong ? `It took longer than ${check.withinMs / 1_000} s` : reasonOf(error as Error);
    return [failed(`${why}. ${check.remedy}`)];
  } finally {
    over.abort();
  }
}

/** Gives the message of an error in one line, with that of its cause where it has one, and no full stop at the end. */
export function reasonOf(error: Error): string {
  const { message, cause, errors } = error as Error & { readonly errors?: readonly Error[] };
  const inner = errors?.[0] ?? (cause instanceof Error ? cause : undefined);
  const said = message || (error as NodeJS.ErrnoException).code || error.name;
  const all = inner && !said.includes(inner.message) ? `${said} (${inner.message})` : said;
  return all.replace(/\s+/g, ' ').slice(0, 500).trim().replace(/\.$/, '');
}

const masked = '***';

/** Words of our own messages. Where one of them is a password, hiding it would tell it, and spoil what to do. */
const ownWords: ReadonlySet<string> = new Set(['sendmux', 'postgres', 'database', 'kafka']);

/** What is never shown; names of users are, since an operator has to know who is refused. */
const hidden = secretSettings.filter((name) => name !== 'KAFKA_USERNAME' && name !== 'KAFKA_OAUTH_CLIENT_ID');

/** Gives what replaces every secret of the settings in a text, and user and password of every URL. */
function masking(env: NodeJS.ProcessEnv): (text: string) => string {
  const given = completeEnvironment(env);
  const values = [...hidden.map((name) => textOf(env, name)), given.AWS_SECRET_ACCESS_KEY];
  const secrets = values
    .flatMap((value) => (value === undefined ? [] : secretsIn(value)))
    .filter((secret) => secret.length >= 3 && !ownWords.has(secret.toLowerCase()))
    .sort((a, b) => b.length - a.length);
  return (text) =>
    secrets
      .reduce((rest, secret) => rest.replaceAll(secret, masked), text)
      .replace(/(\b[a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@]{1,500}@/gi, `$1${masked}@`);
}

/** Gives the text of a secret that is set, and no fault where it cannot be used. */
function textOf(env: NodeJS.ProcessEnv, name: (typeof secretSettings)[number]): string | undefined {
  try {
    const value = loadSettings(env, [name])[name];
    if (value === undefined || typeof value === 'string') return value;
    return [...value].map(([id, key]) => `${id}=${key.toString('base64')}`).join(',');
  } catch {
    return completeEnvironment(env)[name];
  }
}

/** Gives what in the text of a setting is secret: the password of a URL, the keys of a ring, or all of it. */
function secretsIn(text: string): string[] {
  if (URL.canParse(text)) {
    const { password } = new URL(text);
    return password === '' ? [] : [password, decoded(password)];
  }
  return [text, ...text.split(',').map((part) => part.slice(part.indexOf('=') + 1).trim())];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
