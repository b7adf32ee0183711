import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsInt, IsString, Matches, Max, Min } from 'class-validator';
import { setupLinkDays, setupPageOf, type SecretSetupLink, type SetupLink } from '@app/accounts';
import { shown } from '@app/presentation';
import { Envelope, time } from '../domains/domain.dto';
import { MayBeAbsent } from '../http/may-be-absent';

const days = { message: '"expires_in_days" must be a whole number from 1 to 30' };

export class CreateSetupLinkRequest {
  @ApiPropertyOptional({
    type: 'integer',
    minimum: 1,
    maximum: 30,
    default: setupLinkDays,
    example: 7,
    description: 'How many days it is valid, unless it is revoked or the domain is deleted before.',
  })
  @MayBeAbsent()
  @Max(30, days)
  @Min(1, days)
  @IsInt(days)
  expires_in_days?: number;
}

export class SendSetupInstructionsRequest {
  @ApiProperty({
    example: 'dns@acme.com',
    minLength: 1,
    maxLength: 320,
    description: 'Who edits the DNS of the domain.',
  })
  @Matches(/^[^]{1,320}$/, { message: '"email" must have 1 to 320 characters' })
  @IsString({ message: '"email" must be one address' })
  email: string;
}

const idExample = 'slnk_clxxxxxxxxxxxxxxxxxxxxxxxxx';

class SetupLinkSchema {
  @ApiProperty({ example: idExample })
  id: string;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: null,
    description: 'Whom it was mailed to; null where you handed it over.',
  })
  email: string | null;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty(time)
  expires_at: string;
}

class NewSetupLinkSchema {
  @ApiProperty({ example: idExample })
  id: string;
  @ApiProperty({
    format: 'uri',
    example: 'https://app.sendmux.ai/setup#smx_setup_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
    description: 'The page to open, with the token behind the `#`. It is in this answer only: we keep a hash of it.',
  })
  url: string;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty(time)
  expires_at: string;
}

class SentInstructionsSchema {
  @ApiProperty({ example: 'dns@acme.com' })
  email: string;
  @ApiProperty({ example: idExample, description: 'The link that is mailed.' })
  id: string;
  @ApiProperty(time)
  expires_at: string;
}

class RevokedSetupLinkSchema {
  @ApiProperty({ enum: [true] })
  deleted: boolean;
  @ApiProperty({ example: idExample })
  id: string;
}

export class NewSetupLinkEnvelope extends Envelope {
  @ApiProperty({ type: NewSetupLinkSchema })
  data: NewSetupLinkSchema;
}

export class SetupLinksEnvelope extends Envelope {
  @ApiProperty({ type: [SetupLinkSchema], description: 'Those that are open, the newest first; 20 at most.' })
  data: SetupLinkSchema[];
}

export class SentInstructionsEnvelope extends Envelope {
  @ApiProperty({ type: SentInstructionsSchema })
  data: SentInstructionsSchema;
}

export class RevokedSetupLinkEnvelope extends Envelope {
  @ApiProperty({ type: RevokedSetupLinkSchema })
  data: RevokedSetupLinkSchema;
}

export const presentSetupLink = ({ id, email, createdAt, expiresAt }: SetupLink): SetupLinkSchema => ({
  id,
  email,
  created_at: shown(createdAt),
  expires_at: shown(expiresAt),
});

export const presentNewSetupLink = (
  { id, token, createdAt, expiresAt }: SecretSetupLink,
  publicUrl: string,
): NewSetupLinkSchema => ({
  id,
  url: setupPageOf(publicUrl, token),
  created_at: shown(createdAt),
  expires_at: shown(expiresAt),
});

export const presentSentInstructions = ({ id, email, expiresAt }: SetupLink): SentInstructionsSchema => ({
  // A link that is mailed has an address.
  email: email!,
  id,
  expires_at: shown(expiresAt),
});
