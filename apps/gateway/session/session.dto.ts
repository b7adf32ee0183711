import { ApiProperty } from '@nestjs/swagger';
import { IsString, Matches } from 'class-validator';
import type { Session } from '@app/accounts';
import { shown } from '@app/presentation';
import { Envelope, time } from '../domains/domain.dto';
import { MeSchema } from '../accounts/me.dto';

export class SignInRequest {
  @ApiProperty({ example: 'smx_root_…', minLength: 1, maxLength: 200, description: 'An API key of your team.' })
  @Matches(/^[^]{1,200}$/, { message: '"api_key" must have 1 to 200 characters' })
  @IsString({ message: '"api_key" must be one API key' })
  api_key: string;
}

class SessionSchema extends MeSchema {
  @ApiProperty({
    ...time,
    description: 'When the session ends, unless it is used before: 30 minutes after its last use, 8 hours at most.',
  })
  expires_at: string;
}

export class SessionEnvelope extends Envelope {
  @ApiProperty({ type: SessionSchema })
  data: SessionSchema;
}

class EndedSessionSchema {
  @ApiProperty({ enum: [true] })
  deleted: boolean;
}

export class EndedSessionEnvelope extends Envelope {
  @ApiProperty({ type: EndedSessionSchema })
  data: EndedSessionSchema;
}

export const presentSession = (me: MeSchema, { expiresAt }: Session): SessionSchema => ({
  ...me,
  expires_at: shown(expiresAt),
});
