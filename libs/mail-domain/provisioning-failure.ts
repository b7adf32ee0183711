import type { ProvisioningFailed } from './events';

type Failure = ProvisioningFailed['data'];

const parts = { mail_server: 'The mail server', ses: 'Amazon SES' } as const;

/** The data of `ProvisioningFailed`, with a reason that has no text of the mail server or of SES. */
export function provisioningFailure(step: Failure['step'], kind: Failure['kind'], isOurs = false): Failure {
  return { step, kind, isOurs, reason: reasonOf({ step, kind, isOurs }) };
}

/**
 * Gives the data of a recorded failure as it may be shown. Events from before `isOurs` was recorded can have the text
 * of SES or of the mail server's database, with the names of accounts and hosts: it is replaced. What is recorded
 * stays.
 */
export const withoutWordsOfOthers = (failure: Failure): Failure =>
  failure.isOurs === undefined && failure.kind !== 'foreign'
    ? Object.assign({}, failure, { reason: reasonOf(failure) })
    : failure;

function reasonOf({ step, kind, isOurs }: Omit<Failure, 'reason'>): string {
  const part = parts[step];
  if (isOurs)
    return `${part} cannot take domains just now because of a fault on our side, which our operators are told of.`;
  switch (kind) {
    case 'refused':
      return isOurs === undefined ? `${part} refused it.` : `${part} does not accept the name.`;
    case 'foreign':
      return `${part} has the name already, and not from this platform. Our support can settle that: contact@sendmux.ai.`;
    case 'deadline':
      return `${part} was not ready in time.`;
  }
}
