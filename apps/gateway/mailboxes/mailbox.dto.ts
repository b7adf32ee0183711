import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsOptional, IsString, Matches } from 'class-validator';
import { sendmuxSes } from '@app/mailbox';
import type { MailboxView } from '@app/read-model';
import { domainIdForm, Envelope, shown, time } from '../domains/domain.dto';
import { PageMetaSchema, PageQuery } from '../http/paging';

export class CreateMailboxRequest {
  @ApiProperty({
    example: 'ada@mail.acme.com',
    description:
      'On a verified domain of your team, any address; on `myagent.mx`, one whose part before the @ ends with your team’s suffix. Case is yours to choose.',
    maxLength: 1000,
  })
  @Matches(/^[^]{1,1000}$/, { message: '"address" must have 1 to 1000 characters' })
  @IsString({ message: '"address" must be a string, such as "ada@mail.acme.com"' })
  address: string;

  @ApiPropertyOptional({
    type: 'string',
    nullable: true,
    example: 'mailgun',
    description: 'What it sends through; absent or null leaves it to its domain.',
  })
  @IsOptional()
  @IsString({ message: '"outbound_provider" must be the name of a provider, or null' })
  outbound_provider?: string | null;
}

export const mailboxIdForm = /^mbx_cl[0-9a-z]{25}$/;

export class ListMailboxesQuery extends PageQuery {
  @ApiPropertyOptional({ description: 'Only those of this domain.', example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  @IsOptional()
  @Matches(domainIdForm, { message: '"domain_id" must be the id of a domain' })
  @IsString({ message: '"domain_id" must be one string' })
  domain_id?: string;
}

export class MailboxSchema {
  @ApiProperty({ example: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ example: 'ada@mail.acme.com', description: 'Canonical: case folded, NFC, the domain in A-labels.' })
  address: string;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
    description: 'The domain that it lives on; null on `myagent.mx`.',
  })
  domain_id: string | null;
  @ApiProperty({ enum: ['active', 'suspended'] })
  status: string;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: null,
    description: 'What it has chosen to send through; null leaves it to its domain.',
  })
  outbound_provider: string | null;
  @ApiProperty({
    example: sendmuxSes,
    description: 'What it sends through: its own choice, else that of its domain, else Sendmux SES.',
  })
  effective_outbound_provider: string;
  @ApiProperty(time)
  created_at: string;
}

export class MailboxEnvelope extends Envelope {
  @ApiProperty({ type: MailboxSchema })
  data: MailboxSchema;
}

export class MailboxPageEnvelope {
  @ApiProperty({ enum: [true] })
  ok: boolean;
  @ApiProperty({ type: [MailboxSchema], description: 'The newest first.' })
  data: MailboxSchema[];
  @ApiProperty({ type: PageMetaSchema })
  meta: PageMetaSchema;
}

class MailboxDeletionSchema {
  @ApiProperty({ enum: [true] })
  deleted: boolean;
  @ApiProperty({ example: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
}

export class MailboxDeletionEnvelope extends Envelope {
  @ApiProperty({ type: MailboxDeletionSchema })
  data: MailboxDeletionSchema;
}

export const presentMailbox = (view: MailboxView): MailboxSchema => ({
  id: view.id,
  address: view.address,
  domain_id: view.domainId,
  status: view.status,
  outbound_provider: view.provider,
  effective_outbound_provider: view.provider ?? view.domainProvider ?? sendmuxSes,
  created_at: shown(view.createdAt),
});
