/** What the OpenAPI document says of the messages that are sent to endpoints: its section `webhooks`. */
import { ApiProperty, ApiPropertyOptional, getSchemaPath, type OpenAPIObject } from '@nestjs/swagger';
import { presentDomain, presentMailbox, recordsToRemove, testBody } from '@app/presentation';
import { testType, webhookTypes, type WebhookType } from '@app/webhooks';
import { DomainSchema, RecordToRemoveSchema, time } from '../domains/domain.dto';
import { view as domain } from '../domains/examples';
import { MailboxSchema } from '../mailboxes/mailbox.dto';
import { view as mailbox } from '../mailboxes/examples';

/** The attributes of a CloudEvent that each message has. */
class MessageSchema {
  @ApiProperty({ enum: ['1.0'] })
  specversion: string;
  @ApiProperty({
    example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx/12',
    description: 'That of the event, the same in each try and each replay: skip what you have handled already.',
  })
  id: string;
  @ApiProperty({ enum: ['/sendmux-domains'] })
  source: string;
  @ApiProperty({ example: 'domain.verified' })
  type: string;
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx', description: 'The id of what it is about.' })
  subject: string;
  @ApiProperty({ ...time, example: '2026-04-15T10:30:00.000Z', description: 'When it happened.' })
  time: string;
  @ApiProperty({ enum: ['application/json'] })
  datacontenttype: string;
}

/** The attributes of a message about an event of the log. */
class EventMessageSchema extends MessageSchema {
  @ApiProperty({
    example: '0000000000001712',
    pattern: '^[0-9]{16}$',
    description: 'Place in the log of all events. As a text it sorts in the order in which things happened.',
  })
  sequence: string;
  @ApiPropertyOptional({ example: 'rpl_clxxxxxxxxxxxxxxxxxxxxxxxxx', description: 'In a replay: its id.' })
  replayid?: string;
}

const asItWas = 'As `GET` showed it right after the event.';

class DomainDataSchema {
  @ApiProperty({ example: 'team_abc123' })
  team: string;
  @ApiProperty({ type: DomainSchema, description: asItWas })
  domain: DomainSchema;
}

class FailingSchema {
  @ApiProperty({ example: 'mx', description: 'The check, as in `checks` of a verification.' })
  check: string;
  @ApiProperty({ example: 'mx_missing', description: 'Why, as there.' })
  code: string;
}

class FailingDomainDataSchema extends DomainDataSchema {
  @ApiProperty({ type: [FailingSchema], description: 'The checks that fail.' })
  failing: FailingSchema[];
}

class DeletedDomainDataSchema extends DomainDataSchema {
  @ApiProperty({ type: [RecordToRemoveSchema], description: 'Your duty: left over, MX and SPF keep authorising us.' })
  records_to_remove: RecordToRemoveSchema[];
}

class MailboxDataSchema {
  @ApiProperty({ example: 'team_abc123' })
  team: string;
  @ApiProperty({ type: MailboxSchema, description: asItWas })
  mailbox: MailboxSchema;
}

class TestDataSchema {
  @ApiProperty({ example: 'team_abc123' })
  team: string;
  @ApiProperty({ example: 'whk_clxxxxxxxxxxxxxxxxxxxxxxxxx', description: 'The webhook that is tested.' })
  webhook: string;
}

class DomainMessageSchema extends EventMessageSchema {
  @ApiProperty({ type: DomainDataSchema })
  data: DomainDataSchema;
}

class FailingDomainMessageSchema extends EventMessageSchema {
  @ApiProperty({ type: FailingDomainDataSchema })
  data: FailingDomainDataSchema;
}

class DeletedDomainMessageSchema extends EventMessageSchema {
  @ApiProperty({ type: DeletedDomainDataSchema })
  data: DeletedDomainDataSchema;
}

class MailboxMessageSchema extends EventMessageSchema {
  @ApiProperty({ type: MailboxDataSchema })
  data: MailboxDataSchema;
}

class TestMessageSchema extends MessageSchema {
  @ApiProperty({ type: TestDataSchema })
  data: TestDataSchema;
}

/** The schemas of messages, which no operation names. */
export const messageSchemas = [
  DomainMessageSchema,
  FailingDomainMessageSchema,
  DeletedDomainMessageSchema,
  MailboxMessageSchema,
  TestMessageSchema,
];

/** What is documented of a type: a sentence, the schema of the body, and its data in an example. */
interface Documented {
  readonly summary: string;
  readonly schema: (typeof messageSchemas)[number];
  readonly subject: string;
  readonly data: object;
}

const times = { lastCheckedAt: new Date('2026-04-15T10:30:00Z'), nextCheckAt: null };
const { team } = domain;
const aboutDomain = (
  summary: string,
  changes: Partial<typeof domain> = {},
  more: object = {},
  schema: Documented['schema'] = DomainMessageSchema,
): Documented => {
  const data = { team, domain: presentDomain({ ...domain, ...changes }, times), ...more };
  return { summary, schema, subject: domain.id, data };
};
const aboutMailbox = (summary: string, changes: Partial<typeof mailbox> = {}): Documented => {
  const data = { team, mailbox: presentMailbox({ ...mailbox, ...changes }) };
  return { summary, schema: MailboxMessageSchema, subject: mailbox.id, data };
};
const verified = { status: 'verified', verifiedAt: new Date('2026-04-15T10:30:00Z') } as const;
const failing = { failing: [{ check: 'mx', code: 'mx_missing' }] };

const documented: Readonly<Record<WebhookType, Documented>> = {
  'domain.created': aboutDomain('A domain was added, and can be set up: its DNS records are known.'),
  'domain.verified': aboutDomain('A domain was verified.', verified),
  'domain.lapsed': aboutDomain(
    'A domain that was verified is pending: a look has found it failing. The next one decides.',
    {},
    failing,
    FailingDomainMessageSchema,
  ),
  'domain.failed': aboutDomain(
    'A domain has failed: it was verified, and two looks in a row have found it failing.',
    { status: 'failed' },
    failing,
    FailingDomainMessageSchema,
  ),
  'domain.recovered': aboutDomain('A domain that had failed is verified again.', verified),
  'domain.records_changed': aboutDomain('A domain needs other DNS records than before: place them.'),
  'domain.deleted': aboutDomain(
    'A domain is deleted, and its name free. The records to remove are named.',
    { status: 'deleting' },
    { records_to_remove: recordsToRemove(domain) },
    DeletedDomainMessageSchema,
  ),
  'mailbox.created': aboutMailbox('A mailbox was created.'),
  'mailbox.suspended': aboutMailbox('A mailbox was suspended.', { status: 'suspended' }),
  'mailbox.resumed': aboutMailbox('A mailbox was resumed.'),
  'mailbox.deleted': aboutMailbox('A mailbox was deleted.', { status: 'deleted' }),
};

const exampleOf = (type: WebhookType): object => {
  const { subject, data } = documented[type];
  return {
    specversion: '1.0',
    id: `${subject}/12`,
    source: '/sendmux-domains',
    type,
    subject,
    time: '2026-04-15T10:30:00.000Z',
    datacontenttype: 'application/json',
    sequence: '0000000000001712',
    data,
  };
};

/** An example of each type of message. */
export const messages: Readonly<Record<WebhookType | typeof testType, object>> = {
  ...(Object.fromEntries(webhookTypes.map((type) => [type, exampleOf(type)])) as Record<WebhookType, object>),
  [testType]: JSON.parse(
    testBody({
      message: 'msg_clxxxxxxxxxxxxxxxxxxxxxxxxx',
      webhook: 'whk_clxxxxxxxxxxxxxxxxxxxxxxxxx',
      team,
      time: new Date('2026-04-15T10:30:00Z'),
    }).toString(),
  ) as object,
};

const header = (name: string, description: string, example: string, required = true) =>
  ({ name, in: 'header', required, description, schema: { type: 'string' }, example }) as const;

/** The headers of each message (Standard Webhooks 1.0). */
const headers = [
  header('webhook-id', 'The `id` of the body.', 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx/12'),
  header('webhook-timestamp', 'The time of this try, in seconds since 1970. Refuse what is old.', '1776249000'),
  header(
    'webhook-signature',
    '`v1,` and the HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<body>` by the secret, in base64. During a rotation two of them, separated by a blank.',
    'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
  ),
  header('webhook-replay', 'In a replay: its id.', 'rpl_clxxxxxxxxxxxxxxxxxxxxxxxxx', false),
];

const operation = (type: WebhookType | typeof testType, summary: string, schema: Documented['schema']) => ({
  post: {
    tags: ['webhooks'],
    summary,
    security: [],
    parameters: headers,
    requestBody: {
      required: true,
      content: {
        'application/cloudevents+json': {
          schema: { allOf: [{ $ref: getSchemaPath(schema) }, { properties: { type: { enum: [type] } } }] },
          example: messages[type],
        },
      },
    },
    responses: {
      '2XX': { description: 'Taken. What the answer holds beyond 1 KiB is not kept.' },
      410: { description: 'Gone: the webhook is disabled, and your owners are told.' },
      default: { description: 'Not taken: tried again, nine times in all within 24 hours.' },
    },
  },
});

/** The section `webhooks` of the OpenAPI document: what is sent for each type. */
export const webhooksSection = {
  ...Object.fromEntries(
    webhookTypes.map((type) => [type, operation(type, documented[type].summary, documented[type].schema)]),
  ),
  [testType]: operation(testType, 'A test was asked for, by `POST /webhooks/{id}/test`.', TestMessageSchema),
} as NonNullable<OpenAPIObject['webhooks']>;
