export * from './canary';
export * from './dkim-detection';
export * from './explainer';
export * from './published-records';
export * from './verification.module';
export * from './verifier';
