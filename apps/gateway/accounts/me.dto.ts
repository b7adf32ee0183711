import { ApiProperty } from '@nestjs/swagger';
import type { ApiKey, Team } from '@app/accounts';
import type { QuotaUses } from '@app/read-model';
import type { WebhookUse } from '@app/webhooks';
import { Envelope } from '../domains/domain.dto';

class TeamSchema {
  @ApiProperty({ example: 'team_abc123' })
  id: string;
  @ApiProperty({ example: 'Acme' })
  name: string;
}

class CredentialSchema {
  @ApiProperty({ example: 'key_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ enum: ['api_key'] })
  type: 'api_key';
  @ApiProperty({ type: 'string', nullable: true, example: 'Terraform' })
  name: string | null;
}

class BoundMailboxSchema {
  @ApiProperty({ example: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ example: 'ada@mail.acme.com' })
  email: string;
}

class UsageSchema {
  @ApiProperty({
    type: 'integer',
    description: 'Those that count for the limit: also while they are being added, or deleted.',
  })
  domains: number;
  @ApiProperty({ type: 'integer', description: 'Active and suspended ones.' })
  mailboxes: number;
  @ApiProperty({ type: 'integer', description: 'Enabled and disabled ones.' })
  webhooks: number;
}

class LimitsSchema {
  @ApiProperty({ type: 'integer', description: 'Domains that your team may have. Support can raise it.' })
  domains: number;
  @ApiProperty({ type: 'integer', description: 'Mailboxes that your team may have. Support can raise it.' })
  mailboxes: number;
  @ApiProperty({ type: 'integer', description: 'Webhooks that your team may have. Support can raise it.' })
  webhooks: number;
  @ApiProperty({ type: 'integer', description: 'Requests that this key may send in a minute.' })
  requests_per_minute: number;
}

export class MeSchema {
  @ApiProperty({ type: TeamSchema })
  team: TeamSchema;
  @ApiProperty({ type: CredentialSchema })
  credential: CredentialSchema;
  @ApiProperty({ example: 'Terraform', description: 'A name for this connection.' })
  label: string;
  @ApiProperty({
    type: [String],
    description: 'What the key may do. Permissions of mailboxes also by the names that the mail API has for them.',
  })
  permissions: readonly string[];
  @ApiProperty({ type: [BoundMailboxSchema], description: 'The mailboxes that the key is bound to: none, of ours.' })
  mailboxes: readonly BoundMailboxSchema[];
  @ApiProperty({ type: UsageSchema })
  usage: UsageSchema;
  @ApiProperty({ type: LimitsSchema })
  limits: LimitsSchema;
}

export class MeEnvelope extends Envelope {
  @ApiProperty({ type: MeSchema })
  data: MeSchema;
}

/** The names of our permissions in the mail API, where `mailbox.read` is for reading mail. */
const mailApiNames: Readonly<Record<string, string>> = {
  'mailbox.create': 'mailbox.admin.create',
  'mailbox.read': 'mailbox.admin.read',
  'mailbox.update': 'mailbox.admin.manage',
  'mailbox.delete': 'mailbox.admin.delete',
  'mailbox.*': 'mailbox.admin.*',
};

export const presentMe = (
  { id, name }: Team,
  key: ApiKey,
  { domains, mailboxes, webhooks }: QuotaUses & { readonly webhooks: WebhookUse },
  requestsPerMinute: number,
): MeSchema => ({
  team: { id, name },
  credential: { id: key.id, type: 'api_key', name: key.name },
  label: key.name,
  permissions: key.permissions.flatMap((permission) => [permission, mailApiNames[permission] ?? []].flat()),
  mailboxes: [],
  usage: { domains: domains.current, mailboxes: mailboxes.current, webhooks: webhooks.current },
  // A gateway that answers has set the limits.
  limits: {
    domains: domains.limit!,
    mailboxes: mailboxes.limit!,
    webhooks: webhooks.limit,
    requests_per_minute: requestsPerMinute,
  },
});
